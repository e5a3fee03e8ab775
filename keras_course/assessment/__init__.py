"""The grader: a saved model goes in, a grade comes out, and nothing that the learner wrote is run or believed.

The grader owns the photos, how they are decoded and prepared, and the metric. The model is a file; it is opened in a
process of its own, which gets pixels, in an order drawn by chance, and gives logits. That process never sees a label,
the name of a file, or the folder that they are in.

| file | what it is for |
|---|---|
| ``exam`` | the photos, and what it takes to pass |
| ``grader`` | asks the process, with limits on its time and memory, and counts what is right |
| ``grades`` | the grade, as JSON that the teacher signs and anybody with the key can verify |
| ``classroom`` | many models side by side, as a table and a page |

The process that opens the model is ``deployment.isolation``'s; it is told neither labels nor names.
"""

from typing import Final

PASS_MARK: Final = 0.92
"""The share of right answers that the course asks for."""
MOST_SECONDS: Final = 600
"""How long a model may take."""
MOST_MEBIBYTES: Final = 6144
"""How much memory it may fill."""
