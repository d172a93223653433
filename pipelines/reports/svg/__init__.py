"""SVG of charts: as wide as the page allows, with text of one size at any width."""
