"""Simulate chest radiographs: patients, anatomy, findings, the X-ray beam and the image processing."""

from pneumo_utils.phantom.population import Population, Shots

__all__ = ["Population", "Shots"]
