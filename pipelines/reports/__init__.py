"""Report kit: sections, tables and charts, and the page they are written to."""
