"""What can be said from trades and the order book?"""
