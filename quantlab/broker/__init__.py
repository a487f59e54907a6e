"""What becomes of an order, and what does the account say of itself?"""
