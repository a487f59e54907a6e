"""What is one strategy, from bars to orders, as one object?"""
