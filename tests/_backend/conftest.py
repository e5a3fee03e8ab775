"""What needs a framework is tested where that framework is used; the other frameworks are not there to be tested."""

import os

_NEEDS = {
    "test_jax.py": "jax",
    "test_tensorflow.py": "tensorflow",
    "test_torch.py": "torch",
    "test_torch_graphs.py": "torch",
    "test_torch_lstm.py": "torch",
    "test_torchvision.py": "torch",
    "test_transformers.py": "torch",
}
collect_ignore = [name for name, framework in _NEEDS.items() if framework != os.environ.get("KERAS_BACKEND")]
