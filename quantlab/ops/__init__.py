"""How does it run tomorrow?"""
