"""What the product costs, measured; each file is a command of its own (``python benchmarks/NAME.py --help``)."""
