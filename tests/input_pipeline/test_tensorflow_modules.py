"""TensorFlow as this project imports it: without Keras, which is there once it is asked for."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from input_pipeline.tensorflow_modules import tf, tfds
assert "keras" not in sys.modules
numbers = tf.data.Dataset.range(3).batch(2).as_numpy_iterator()
assert next(numbers).tolist() == [0, 1]
assert tfds.features.Text().get_tensor_info().dtype == tf.string.as_numpy_dtype
assert "keras" not in sys.modules
assert tf.keras.layers.Dense(3)(tf.ones((2, 4))).shape == (2, 3)
"""


@pytest.mark.slow
def test_keras_waits_until_it_is_used():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
