"""Pre-train pocket trunks on images drawn by formula (fractals, textures and shapes), without any radiograph."""
