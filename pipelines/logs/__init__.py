"""Reading of logs: files, tables, columns, timestamps."""
