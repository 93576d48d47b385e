"""What `torch.compile` makes of the networks: one graph each, and no more of them as training goes on.

With the backend `eager` graphs are found as for a GPU, and nothing is compiled.
"""

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from glidexp.config import Embed
from glidexp.models.build import assemble
from glidexp.models.recompute import recompute_blocks
from glidexp.models.resampled import resampling, scale_vector
from glidexp.models.told import Told, listening, with_told


class Small(nn.Module):
    """A module of our own: of torch's own classes the compiler looks at no forward pass by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(image)).relu())


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()
    counters.clear()


@pytest.mark.slow
def test_a_network_with_all_that_is_built_into_it_is_one_graph() -> None:
    """What the encoder is told, and blocks that are computed again: neither breaks the graph of a training step."""
    model = assemble("resnet18", "unet_light", in_channels=3)
    listening(model, Told(Embed.gsd), in_channels=3)
    recompute_blocks(model)
    compiled = torch.compile(model.train(), backend="eager", fullgraph=True)  # type: ignore[arg-type]
    image = torch.randn(2, 5, 64, 64).to(memory_format=torch.channels_last)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                compiled(image)
    assert counters["stats"]["unique_graphs"] == 1


def test_mixtures_of_sensors_are_no_graphs_of_their_own() -> None:
    network = Small()
    resampling(network, scaled_from=5)
    compiled = torch.compile(network, backend="eager")
    distances = [10.0, 20.0, 15.0, 30.0]
    for number in range(12):
        gsds = [distances[(number * place + place) % 4] for place in range(4)]
        vectors = torch.tensor([scale_vector(gsd, 10.0) for gsd in gsds])
        assert compiled(with_told(torch.randn(4, 3, 64, 64), vectors)).shape == (4, 1, 64, 64)
    assert not counters["graph_break"]
    assert 1 <= counters["stats"]["unique_graphs"] <= 4
