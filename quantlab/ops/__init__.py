"""How does it run tomorrow, and who may ask it?"""
