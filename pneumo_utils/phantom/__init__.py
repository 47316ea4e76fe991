"""A physical simulator of chest radiographs: people, anatomy, findings, the beam and the processing."""

from pneumo_utils.phantom.population import Population, Shots

__all__ = ["Population", "Shots"]
