"""Heads, losses, optimisers, schedules and devices, compared with values worked out another way."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models import heads
from pneumo_utils.training import compute
from pneumo_utils.training.compute import share_cores
from pneumo_utils.training.losses import (
    binary_cross_entropy,
    categorical_cross_entropy,
    cross_entropy,
    multi_label_cross_entropy,
    weighted_cross_entropy,
)
from pneumo_utils.training.optimizers import adam, sgd

torch.set_num_threads(1)

# heads


def parameters(head):
    return sum(weight.numel() for weight in head.parameters())


@pytest.mark.parametrize(
    "head, classes, count",
    [
        (heads.linear(1280, 3), 3, 2_261_827 - 2_257_984),  # paper 4's total, less Keras's MobileNetV2 without its top
        (heads.linear(512, 2, dropout=0.5), 2, 512 * 2 + 2),
        (heads.two_hidden_layers(512, 2), 2, 513 * 512 + 513 * 512 + 513 * 2),
        (heads.two_hidden_layers(512, 2, dropout=0.5, map_size=4), 2, (512 * 16 + 1) * 512 + 513 * 512 + 513 * 2),
        (heads.single_output(2048), 1, 2049 * 1028 + 1029),
    ],
)
def test_heads_return_one_logit_per_class(head, classes, count):
    channels = 1280 if classes == 3 else 2048 if classes == 1 else 512
    assert head(torch.randn(3, channels, 4, 4)).shape == (3, classes) and parameters(head) == count


def test_head_of_paper_5_takes_a_thousand_logits():
    head = heads.after_classifier(1000, 15)
    assert head(torch.randn(2, 1000)).shape == (2, 15) and parameters(head) == 1001 * 15
    ended = heads.after_classifier(1000, 15, softmax=True)
    expected = ended.answer.weight.mean(dim=1) + ended.answer.bias
    assert torch.allclose(ended(torch.zeros(1, 1000)), expected, atol=1e-6), (
        "of a thousand equal answers each is 1/1000"
    )


def test_pooled_head_uses_the_mean_of_each_map():
    head, maps = heads.linear(5, 2, dropout=0.5).eval(), torch.randn(3, 5, 4, 6)
    assert torch.allclose(head(maps), maps.mean(dim=(2, 3)) @ head.answer.weight.T + head.answer.bias, atol=1e-6)


def test_dropout_is_added_only_when_requested():
    def rates(head):
        return [layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)]

    assert rates(heads.linear(8, 2)) == [] and rates(heads.linear(8, 2, dropout=0.5)) == [0.5]
    assert rates(heads.two_hidden_layers(8, 2)) == [] and rates(heads.two_hidden_layers(8, 2, dropout=0.3)) == [
        0.3,
        0.3,
    ]


def test_head_initialisation_follows_keras_or_torch():
    keras, bound = heads.linear(600, 200, init="keras", seed=1).answer, math.sqrt(6 / 800)
    assert (
        keras.weight.abs().max() <= bound
        and keras.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        and not keras.bias.any()
    )
    plain, bound = heads.linear(600, 200, init="torch", seed=1).answer, 1 / math.sqrt(600)
    assert (
        plain.weight.abs().max() <= bound
        and plain.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        and plain.bias.any()
    )
    with pytest.raises(StudyError, match="cannot be initialised as 'tf'"):
        heads.linear(8, 2, init="tf")


def test_seeded_head_leaves_torch_random_state_unchanged():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (heads.two_hidden_layers(8, 2, seed=seed).first.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and torch.equal(torch.rand(3), expected)
    torch.manual_seed(5)
    drawn = heads.linear(8, 2).answer.weight
    torch.manual_seed(5)
    assert torch.equal(drawn, heads.linear(8, 2).answer.weight) and not torch.equal(
        drawn, heads.linear(8, 2).answer.weight
    )


# losses: -log p of the right class is worked out by hand


LOGITS = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [math.log(4), 0.0]])  # p of the second class: 1/2, 3/4, 1/5
TRUTH = torch.tensor([0, 1, 1])
LOST = [math.log(2), math.log(4 / 3), math.log(5)]


def test_cross_entropy_by_hand():
    assert cross_entropy()(LOGITS, TRUTH).item() == pytest.approx(sum(LOST) / 3)


def test_loss_accepts_fastai_tensors():
    from fastai.torch_core import TensorCategory, TensorImage

    assert cross_entropy()(TensorImage(LOGITS), TensorCategory(TRUTH)).item() == pytest.approx(sum(LOST) / 3)


def test_weighted_loss_averages_over_weights_or_images():
    weights = {"well": 1.0, "ill": 3.0}
    top = LOST[0] + 3 * LOST[1] + 3 * LOST[2]
    assert weighted_cross_entropy(weights)(LOGITS, TRUTH).item() == pytest.approx(top / 7)
    assert weighted_cross_entropy(weights, average_over="images")(LOGITS, TRUTH).item() == pytest.approx(top / 3)
    torchs = nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))(LOGITS, TRUTH).item()
    assert weighted_cross_entropy([1, 3])(LOGITS, TRUTH).item() == pytest.approx(torchs)
    alike = [weighted_cross_entropy([1, 1], average_over=over)(LOGITS, TRUTH).item() for over in ("weights", "images")]
    assert alike == pytest.approx([sum(LOST) / 3] * 2)


def test_one_output_scores_the_second_class():
    one_output = (LOGITS[:, 1] - LOGITS[:, 0])[:, None]
    assert binary_cross_entropy()(one_output, TRUTH).item() == pytest.approx(sum(LOST) / 3, rel=1e-6)
    top, p = LOST[0] * 2 + LOST[1] * 5 + LOST[2] * 5, binary_cross_entropy().activation(one_output)
    assert binary_cross_entropy({"well": 2, "ill": 5})(one_output, TRUTH).item() == pytest.approx(top / 3)
    scikits = log_loss(TRUTH, p[:, 0].double(), sample_weight=[2, 5, 5])
    assert binary_cross_entropy([2, 5], average_over="weights")(one_output, TRUTH).item() == pytest.approx(
        scikits, rel=1e-6
    )
    assert p[:, 0].tolist() == pytest.approx([0.5, 0.75, 0.2]) and binary_cross_entropy().decodes(p).tolist() == [
        0,
        1,
        0,
    ]


def test_multilabel_binary_cross_entropy():
    logits, truth = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = [[math.log(2), math.log(4)], [math.log(5), math.log(2)]]
    assert multi_label_cross_entropy()(logits, truth).item() == pytest.approx(np.mean(losses))
    weighed = [[7 * math.log(2), math.log(4)], [math.log(5), 9 * math.log(2)]]
    assert multi_label_cross_entropy({"Mass": 7, "Edema": 9})(logits, truth).item() == pytest.approx(np.mean(weighed))
    assert multi_label_cross_entropy().activation(logits).flatten().tolist() == pytest.approx([0.5, 0.75, 0.8, 0.5])


def test_multilabel_softmax_cross_entropy():
    truth = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert categorical_cross_entropy()(LOGITS, truth).item() == pytest.approx(
        (2 * math.log(2) + math.log(4 / 3) + 0) / 3
    )


@pytest.mark.parametrize(
    "loss, logits, truth",
    [
        (weighted_cross_entropy([1, 3], average_over="images"), LOGITS, TRUTH),
        (binary_cross_entropy([2, 5]), LOGITS[:, :1], TRUTH),
        (multi_label_cross_entropy([2, 5]), LOGITS, torch.eye(3)[:, :2]),
        (categorical_cross_entropy(), LOGITS, torch.eye(3)[:, :2]),
    ],
)
def test_loss_per_image_for_fastai(loss, logits, truth):
    mean = loss(logits, truth)
    loss.reduction = "none"
    losses = loss(logits, truth)
    loss.reduction = "sum"
    assert (
        losses.shape == (3,)
        and losses.mean().item() == pytest.approx(mean.item())
        and loss(logits, truth).item() == pytest.approx(losses.sum().item())
    )


@pytest.mark.parametrize(
    "loss, logits, truth",
    [
        (cross_entropy(), torch.zeros(3, 1), TRUTH),
        (binary_cross_entropy(), LOGITS, TRUTH),
        (weighted_cross_entropy([1, 2, 3]), LOGITS, TRUTH),
        (multi_label_cross_entropy(), LOGITS, TRUTH),
        (categorical_cross_entropy(), LOGITS, torch.eye(3)),
        (cross_entropy(), torch.zeros(3, 2, 4, 4), TRUTH),
    ],
)
def test_head_that_does_not_fit_the_loss_is_refused(loss, logits, truth):
    with pytest.raises(StudyError, match="cannot compare outputs of shape .* Give the network another head"):
        loss(logits, truth)


def test_invalid_class_weights_are_refused():
    for weights in ([1, -1], [float("nan"), 1], [0, 0]):
        with pytest.raises(StudyError, match="numbers of 0 or more and not all 0"):
            weighted_cross_entropy(weights)
    with pytest.raises(StudyError, match="not over 'batch'"):
        weighted_cross_entropy([1, 2], average_over="batch")


# optimisers: the published formulas, step by step


def stepped(recipe, start, gradients):
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer, seen = recipe([[weight]]), []
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        seen.append(weight.tolist())
    return np.array(seen)


START, GRADIENTS = [1.0, -2.0], [[0.5, -1.0], [0.1, 4.0], [-0.7, 0.0]]


def test_adam_equals_its_formula():
    w, m, v, expected = np.array(START), 0, 0, []
    for t, g in enumerate(np.array(GRADIENTS), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        expected.append(w)
    assert np.allclose(stepped(adam(0.01), START, GRADIENTS), expected, rtol=1e-12)


@pytest.mark.parametrize("nesterov, decay", [(False, 0), (True, 0), (True, 0.5)])
def test_momentum_nesterov_and_keras_decay_equal_their_formulas(nesterov, decay):
    w, velocity, expected = np.array(START), 0, []
    for t, g in enumerate(np.array(GRADIENTS)):
        velocity = 0.9 * velocity + g
        w = w - 0.1 / (1 + decay * t) * (g + 0.9 * velocity if nesterov else velocity)
        expected.append(w)
    assert np.allclose(
        stepped(sgd(0.1, momentum=0.9, nesterov=nesterov, decay=decay), START, GRADIENTS), expected, rtol=1e-12
    )


def test_sgd_without_momentum():
    assert np.allclose(
        stepped(sgd(0.1), START, GRADIENTS), np.array(START) - 0.1 * np.cumsum(GRADIENTS, axis=0), rtol=1e-12
    )


@pytest.mark.parametrize("recipe", [adam(0.1), sgd(0.1, momentum=0.9, nesterov=True)])
def test_default_weight_decay_is_zero(recipe):
    assert (stepped(recipe, START, [[0.0, 0.0]] * 3) == START).all()
    assert recipe([[nn.Parameter(torch.ones(2))]]).hypers[0]["wd"] == 0


def test_requested_weight_decay_is_applied():
    assert np.allclose(stepped(sgd(0.1, weight_decay=0.5), START, [[0.0, 0.0]]), np.array(START) * 0.95)


def test_slice_of_rates_gives_each_group_its_rate():
    three = [[nn.Parameter(torch.ones(1))] for _ in range(3)]
    assert [hyper["lr"] for hyper in adam(slice(1e-5, 1e-3))(three).hypers] == pytest.approx([1e-5, 1e-4, 1e-3])


# devices


def test_compute_defaults_can_be_overridden():
    assert compute.choose_compute("cpu", "float32", "contiguous") == compute.ComputeSettings(
        torch.device("cpu"), "float32", "contiguous"
    )
    assert compute.choose_compute("cpu").memory_format == "channels_last"
    for words in ({"precision": "float16"}, {"memory_format": "nchw"}):
        with pytest.raises(StudyError, match=f'{next(iter(words))} is "auto"'):
            compute.choose_compute("cpu", **words)


@pytest.mark.parametrize(
    "flags, precision",
    [
        ({"avx2"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "bfloat16"),
        ({"amx_bf16"}, "bfloat16"),
        (set(), "float32"),
    ],
)
def test_bfloat16_is_used_only_where_the_cpu_supports_it(monkeypatch, flags, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(flags, True), raising=False)
    assert compute.choose_compute("cpu").precision == precision


def test_prepare_batch_converts_to_plain_tensors_and_memory_format():
    from fastai.torch_core import TensorImage

    taken = compute.choose_compute("cpu", memory_format="channels_last").prepare_batch(
        TensorImage(torch.randn(2, 3, 4, 4))
    )
    assert (
        type(taken) is torch.Tensor
        and taken.is_contiguous(memory_format=torch.channels_last)
        and not taken.is_contiguous()
    )
    network = compute.choose_compute("cpu", memory_format="channels_last").place(nn.Conv2d(3, 4, 3))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert compute.choose_compute("cpu", memory_format="contiguous").place(network).weight.is_contiguous()


def test_share_cores_divides_threads(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(compute, "available_cores", lambda: 8)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        threads = [share_cores(processes) for processes in (1, 3, 8, 20)]
        assert threads == [8, 2, 1, 1] and torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert share_cores(2) == 3 and share_cores(4) == 2
    finally:
        torch.set_num_threads(before)
