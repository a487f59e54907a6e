"""What weather are we in?"""
