"""The chapters, and beside them the modules with the tables and figures that belong to one chapter only."""
