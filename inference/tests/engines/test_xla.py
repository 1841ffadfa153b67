"""How TensorFlow is set up in a worker: in a process of its own, as it can be set up once."""

import os
import subprocess
import sys

import pytest

SET_UP = """
from contextlib import suppress
from pinn_inference.engines import xla
with suppress(OSError):  # there need not be a GPU
    xla._tensorflow("gpu")
import tensorflow as tf
assert tf.executing_eagerly()
double = tf.function(lambda x: 2 * x, jit_compile=True).get_concrete_function(tf.TensorSpec([2]))
assert double(tf.constant([1.0, 2.0])).numpy().tolist() == [2.0, 4.0]
print(tf.__internal__.eager_context.get_config().gpu_options.experimental.disallow_retry_on_allocation_failure)
"""

WITHOUT = """
import os
import tensorflow as tf
from pinn_inference.engines import xla
tf.config.list_physical_devices = lambda kind=None: [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
try:
    xla._tensorflow("gpu")
except OSError as error:
    print(error)
print(tf.config.get_soft_device_placement(), os.environ["TF_CPP_MIN_LOG_LEVEL"])
"""


@pytest.mark.tensorflow
def test_a_gpu_out_of_memory_fails_at_once_rather_than_after_the_requests_time() -> None:
    done = subprocess.run([sys.executable, "-c", SET_UP], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.tensorflow
def test_a_gpu_that_tensorflow_makes_no_use_of_is_none_and_the_cpu_never_stands_in_for_one() -> None:
    """A physical device is not enough: one that is too old, or whose driver fails, is listed and passed over."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, env=environment)
    said, settings = done.stdout.splitlines()
    assert said.startswith("TensorFlow sees no GPU"), done.stderr
    assert settings == "False 1"
