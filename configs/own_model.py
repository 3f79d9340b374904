"""A network of your own for lrensemble: any torch.nn.Module that gives one logit a class."""

from torch import Tensor, nn


class Net(nn.Module):
    """Of `input_shape` (channels, height, width) and `num_classes`, lrensemble gives what there are parameters for."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(input_shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
        )
        self.classifier = nn.Linear(width * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))
