"""torchvision.transforms.v2 by name: against torchvision's own results, image by image; and what cannot be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from lrensemble import UserError, load_config, train_pool
from lrensemble.pool import Named, RunSpec, Training
from lrensemble.tasks import ArrayTask
from lrensemble.tasks.dataset import Images, Split
from lrensemble.tasks.rows import DeviceData
from lrensemble.training.loop import Run, fit
from tests.conftest import tiny_config
from tests.training.runs import CPU, assert_equal, specs_of

RNG = np.random.default_rng(0)


def task_of(shape=(3, 12, 12), dtype="uint8", scale=1.0, rows=40) -> Images:
    images = (RNG.integers(0, 256, (rows, *shape)) * scale).astype(dtype)
    split = Split(images, np.arange(rows) % 2)
    return Images(split, split, split, ("a", "b"))


COLOUR, GREY = task_of(), task_of((1, 12, 12))


def training(*augment, **values) -> Training:
    return Training(epochs=1, augment=augment, **values)


def changed(task: Images, *augment, seed: int = 0, memory_format=torch.contiguous_format) -> torch.Tensor:
    """All training images as they come out, normalised."""
    x = task.inputs()(torch.from_numpy(task.train.images)).contiguous(memory_format=memory_format)
    torch.manual_seed(seed)
    return task.augment({"x": x, "y": torch.from_numpy(task.train.labels)}, training(*augment))["x"]


TRANSFORMS = [
    ({"name": "RandAugment", "num_ops": 2, "magnitude": 7}, v2.RandAugment(2, 7)),
    ("TrivialAugmentWide", v2.TrivialAugmentWide()),
    ({"name": "AutoAugment", "policy": "cifar10"}, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    ({"name": "ColorJitter", "brightness": 0.4, "contrast": 0.4}, v2.ColorJitter(0.4, 0.4)),
    ({"name": "RandomResizedCrop", "size": 12}, v2.RandomResizedCrop(12)),
    ({"name": "RandomRotation", "degrees": 20}, v2.RandomRotation(20)),
]


@pytest.mark.parametrize(("entry", "theirs"), TRANSFORMS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("task", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_image_is_torchvisions_on_raw_bytes(task, entry, theirs):
    ours = changed(task, entry)
    torch.manual_seed(0)
    pixels = torch.stack([theirs(image) for image in torch.from_numpy(task.train.images)])
    assert torch.equal(ours, task.inputs()(pixels))


def test_images_of_one_batch_have_draws_of_their_own():
    """torchvision turns a whole batch by one angle; here each image by its own."""
    same = Split(np.repeat(RNG.integers(0, 256, (1, 3, 12, 12), dtype=np.uint8), 40, axis=0), np.arange(40) % 2)
    x = changed(Images(same, same, same, ("a", "b")), {"name": "RandomRotation", "degrees": 90})
    assert len(x.flatten(1).unique(dim=0)) > 30


def test_bytes_come_back_as_they_were():
    """What no transform changes is the same to the last bit, at every mean and deviation."""
    for shape in ((1, 16, 16), (3, 16, 16)):
        task = task_of(shape)
        images = torch.arange(256).byte().view(1, 1, 16, 16).expand(2, *shape)
        x = task.inputs()(images)
        assert torch.equal(task.inputs().undo(x).round().byte(), images)
    x = changed(COLOUR, {"name": "RandomHorizontalFlip", "p": 1e-9})
    assert torch.equal(x, task_inputs(COLOUR))


def task_inputs(task: Images) -> torch.Tensor:
    return task.inputs()(torch.from_numpy(task.train.images))


def test_erasing_comes_after_normalisation():
    x = changed(COLOUR, {"name": "RandomErasing", "p": 1.0, "scale": [0.3, 0.3]})
    torch.manual_seed(0)
    theirs = v2.RandomErasing(1.0, (0.3, 0.3))
    assert torch.equal(x, torch.stack([theirs(image) for image in task_inputs(COLOUR)]))
    erased = (x == 0).all(1).flatten(1).float().mean(1)  # the mean of the images
    assert ((erased > 0.2) & (erased < 0.4)).all()


def test_the_order_is_the_configurations():
    turn, jitter = {"name": "RandomVerticalFlip", "p": 1.0}, {"name": "RandomInvert", "p": 1.0}
    x = changed(COLOUR, "flip", turn, jitter)
    torch.manual_seed(0)
    mirrored = torch.rand(40) < 0.5
    images = torch.from_numpy(COLOUR.train.images)
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    assert torch.equal(x, COLOUR.inputs()(255 - images.flip(-2)))


def test_floats_from_0_to_1_are_taken_as_they_are():
    task = task_of(dtype="float32", scale=1 / 255)
    x = changed(task, {"name": "ColorJitter", "brightness": 0.5})
    torch.manual_seed(0)
    theirs = v2.ColorJitter(0.5)
    pixels = torch.stack([theirs(image) for image in torch.from_numpy(task.train.images)])
    torch.testing.assert_close(x, task.inputs()(pixels), atol=1e-5, rtol=1e-5)
    with pytest.raises(
        UserError, match=r"ColorJitter is for images of 8 bits, or floats from 0 to 1; .* from 0 to 510"
    ):
        changed(task_of(dtype="float32", scale=2.0), {"name": "ColorJitter", "brightness": 0.5})
    changed(task_of(dtype="float32", scale=2.0), "RandomErasing")


def test_the_memory_format_stays():
    x = changed(COLOUR, "TrivialAugmentWide", memory_format=torch.channels_last)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, changed(COLOUR, "TrivialAugmentWide"))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("crp", "no augmentation 'crp', here or in torchvision.transforms.v2: did you mean 'crop'"),
        ("TrivialAugment", "did you mean 'TrivialAugmentWide'"),
        ("randaugment", "did you mean 'RandAugment'"),
        ({"name": "RandAugment", "num_op": 2}, "RandAugment has no option 'num_op': did you mean 'num_ops'"),
        ({"name": "ColorJitter", "hue": 0.9}, r"ColorJitter\(hue=0.9\) cannot be made: hue values"),
        ({"name": "AutoAugment", "policy": "cifar"}, "'cifar' is not a valid AutoAugmentPolicy"),
        ({"name": "crop", "size": 3}, "crop has no options, but size is given"),
        ("Lambda", r"Lambda\(\) cannot be made"),
        ([3], "a text is needed"),
    ],
)
def test_what_does_not_exist_is_one_line_of_the_configuration(entry, words):
    with pytest.raises(UserError, match=words) as caught:
        load_config(tiny_config(training={"epochs": 1, "augment": [entry]}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "entry", "words"),
    [
        ((1, 12, 12), {"name": "ColorJitter", "brightness": 0.1, "hue": 0.1}, "has no use for hue here: .*grey"),
        ((1, 12, 12), {"name": "ColorJitter", "saturation": 0.1}, "has no use for saturation here: .*grey"),
        ((1, 12, 12), "RandomGrayscale", r"RandomGrayscale\(\) never changes images of shape \(1, 12, 12\)"),
        ((2, 12, 12), "RandAugment", r"cannot change images of shape \(2, 12, 12\).*channel values are 1 or 3"),
        ((3, 12, 12), {"name": "Resize", "size": 6}, r"makes torch.uint8 of shape \(3, 6, 6\) of an image"),
        ((3, 12, 12), {"name": "RandomCrop", "size": 20}, "cannot change images"),
        ((3, 12, 12), "ToPILImage", "makes <class 'PIL.Image.Image'> of an image"),
        ((3, 12, 12), {"name": "RandomHorizontalFlip", "p": 0.0}, "never changes"),
        ((3, 12, 12), "CutMix", "cannot change images"),
    ],
)
def test_what_the_images_do_not_allow_is_one_line(shape, entry, words):
    with pytest.raises(UserError, match=words) as caught:
        changed(task_of(shape), entry)
    assert "\n" not in str(caught.value)


def test_it_is_said_before_anything_is_written(tmp_path):
    config = load_config(tiny_config(), ["training.augment=[{name: ColorJitter, hue: 0.1}]"])  # digits are grey
    with pytest.raises(UserError, match="has no use for hue"):
        train_pool(config, tmp_path / "pool", workers=1)
    assert not (tmp_path / "pool").exists()
    rows = ArrayTask(*[(RNG.random((20, 64)), np.arange(20) % 2)] * 3)
    for option in ("training.augment=[RandAugment]", "training.cutout=2", "training.mixup=0.2"):
        with pytest.raises(UserError, match="are for images: ArrayTask takes none"):
            train_pool(load_config(tiny_config(), [option], task=rows), tmp_path / "pool", workers=1)


def test_the_trial_leaves_the_random_state_alone():
    """A resumed run tries its transforms at another epoch than one from the beginning."""
    state = torch.random.get_rng_state()
    task = task_of()
    task._augmentation("TrivialAugmentWide")
    assert torch.equal(state, torch.random.get_rng_state())


AUGMENT = "training.augment=[crop, RandAugment, {name: RandomErasing, p: 0.5}]"


def test_resumed_and_streamed_the_bits_are_the_same():
    specs = [
        specs_of(["COS(k0=0.01, l=100%)"], "training.epochs=3", "training.batch_size=16", *o)[0]
        for o in ([AUGMENT], [])
    ]
    data = DeviceData.of(COLOUR, CPU)
    whole, plain = (fit(Run(spec, "id", data)) for spec in specs)
    assert whole.status == "complete"
    first = Run(specs[0], "id", data)
    first.train_epoch()
    fresh = replace(COLOUR)  # without the transforms that were tried
    assert_equal(whole, fit(Run(specs[0], "id", DeviceData.of(fresh, CPU)), state=first.state()))
    assert_equal(whole, fit(Run(specs[0], "id", DeviceData.of(replace(COLOUR), CPU, stream=True))))
    assert not all(torch.equal(whole.weights[name], plain.weights[name]) for name in plain.weights)


def test_ids_know_transforms_and_one_form_of_each():
    def id_of(*augment) -> str:
        return RunSpec(
            model=Named(name="mlp"), optimizer=Named(name="SGD"), policy="FIX(0.1)", training=training(*augment), seed=0
        ).id("data")

    assert id_of("RandAugment") == id_of({"name": "RandAugment"}) != id_of()
    assert id_of({"name": "RandAugment", "num_ops": 3}) != id_of("RandAugment")
    assert id_of("crop", "flip") == "5b1326dcb0"  # as before there were transforms
    again = Training.model_validate_json(training("crop", {"name": "RandAugment", "num_ops": 3}).model_dump_json())
    assert again == training("crop", {"name": "RandAugment", "num_ops": 3})
