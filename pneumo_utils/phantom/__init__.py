"""Simulate chest radiographs: patients, anatomy, findings, the X-ray beam and the image processing."""

from pneumo_utils.phantom.population import Population, Radiographs

__all__ = ["Population", "Radiographs"]
