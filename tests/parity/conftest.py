"""The comparisons run where there is no backend, and without this file; elsewhere there is nothing to compare yet."""

collect_ignore = ["record.py", "test_compare.py", "test_accuracies.py"]
