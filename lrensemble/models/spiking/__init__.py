"""Spiking networks: leaky integrate-and-fire neurons over all time steps at once, and networks of them."""

from lrensemble.models.spiking.networks import carsnn, event_resnet
from lrensemble.models.spiking.neuron import LIF, SURROGATES

__all__ = ["LIF", "SURROGATES", "carsnn", "event_resnet"]
