"""Wide residual networks for 32x32 images (Zagoruyko & Komodakis 2016, arXiv:1605.07146, sections 2 and 3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lrensemble.errors import UserError
from lrensemble.models.resnet import initialise


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU, 3x3 convolution, twice; with dropout between the convolutions (figure 1 d).

    Where the shape changes, the shortcut is a 1x1 convolution of what the first convolution sees; else it is the input.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        same = channels_in == channels and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(active)))))
        skip: Tensor = x if self.shortcut is None else self.shortcut(active)
        return skip + out


def wide_resnet(
    *, input_shape: tuple[int, ...], num_classes: int, depth: int = 16, width: int = 4, dropout: float = 0.0
) -> nn.Module:
    """WRN-depth-width: three stages of (depth - 4) / 6 blocks with 16, 32 and 64 times `width` channels.

    The paper drops out 0.3 on CIFAR and 0.4 on SVHN where it does (table 6). On RGB images with 10 classes WRN-28-10
    has 36,479,194 parameters (the paper's 36.5 M) and WRN-16-4 has 2,748,890.
    """
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"a wide ResNet cannot have depth {depth}: it must be 6n + 4 (10, 16, 22, 28, 34, 40, ...)")
    if width < 1:
        raise UserError(
            f"a wide ResNet cannot have width {width}: it must be a whole number >= 1 (the paper has 1 to 12)"
        )
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)]
    channels_in = 16
    for stage in range(3):
        channels = 16 * width * 2**stage
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            layers.append(PreActivationBlock(channels_in, channels, stride, dropout))
            channels_in = channels
    head = [nn.BatchNorm2d(channels_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return initialise(nn.Sequential(*layers, *head, nn.Linear(channels_in, num_classes)))
