"""Using trained networks: exact evaluation of a split, recognition of single videos."""
