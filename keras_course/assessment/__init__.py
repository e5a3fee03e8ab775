"""The grader: grades a saved model, and uses only the model file; it runs no code of the learner.

The grader owns the photos, their preprocessing and the metric. The model is opened in a separate process (see
``deployment.isolation``), which gets pixels in random order and returns logits. That process never sees a label, a file
name, or the folder of the photos.

| file | content |
|---|---|
| ``exam`` | the photos, and the conditions to pass |
| ``grader`` | sends the photos to the process, with limits on time and memory, and computes the metrics |
| ``grades`` | the grade as JSON, which the teacher signs and anyone with the key can verify |
| ``classroom`` | the grades of many models, as a table and a page |
"""

from typing import Final

PASS_MARK: Final = 0.92
"""The accuracy needed to pass the course."""
MOST_SECONDS: Final = 600
"""The longest time for a model."""
MOST_MEBIBYTES: Final = 6144
"""The most memory for a model."""
