"""Operations are those of open_clip's table of model profiles."""

import pytest
import tensorflow as tf

from benchmarks import gpu
from benchmarks.flops import flops
from tfclip.models.initial_values import without_random_weights


def test_products_and_convolutions_are_counted_by_hand():
    def work(pictures, rows, kernel, depthwise):
        out = tf.nn.conv2d(pictures, kernel, 2, "SAME")  # 4x4 of 3 x 3x3x5
        out = tf.nn.depthwise_conv2d(out, depthwise, [1, 1, 1, 1], "SAME")  # 4x4x5 of 3x3
        product = tf.matmul(rows, rows, transpose_b=True)  # 6x6 of 7
        return out, tf.einsum("ab,cb->ac", product, product)  # 6x6 of 6

    shapes = [[1, 8, 8, 3], [6, 7], [3, 3, 3, 5], [3, 3, 5, 1]]
    specs = [tf.TensorSpec(shape) for shape in shapes]
    traced = tf.function(work, autograph=False).get_concrete_function(*specs)
    by_hand = 16 * 5 * 27 + 16 * 5 * 9 + 36 * 7 + 36 * 6
    assert flops(traced) == 2 * by_hand


@pytest.mark.slow
def test_clip_vit_b32_takes_what_open_clip_says():
    with without_random_weights():
        model, _, context = gpu._model("clip-vit-b32")
    image = tf.function(model.image_features, autograph=False)
    text = tf.function(model.text_features, autograph=False)
    of_image = flops(image.get_concrete_function(tf.TensorSpec([1, 224, 224, 3])))
    tokens = [tf.TensorSpec([1, context], kind) for kind in (tf.int32, tf.bool)]
    of_text = flops(text.get_concrete_function(*tokens))
    # docs/model_profile.csv: 8.82 and 5.96, with the projections.
    assert abs(of_image / 1e9 - 8.82) < 0.1
    assert abs(of_text / 1e9 - 5.96) < 0.1


def test_without_a_gpu_the_command_says_so(capsys, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert gpu.main([]) == 2
    assert "no GPU: TensorFlow sees none here" in capsys.readouterr().err
