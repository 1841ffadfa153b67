"""How TensorFlow is set up in a worker: in a process of its own, as it can be set up once."""

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


@pytest.mark.tensorflow
def test_a_gpu_out_of_memory_fails_at_once_rather_than_after_the_requests_time() -> None:
    done = subprocess.run([sys.executable, "-c", SET_UP], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
