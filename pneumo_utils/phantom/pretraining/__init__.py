"""Pre-training of pocket trunks on images drawn by formula: fractals, textures and shapes, with no radiograph among
them.
"""
