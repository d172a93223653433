"""The one encoder of raw values into table rows, used offline and online."""
