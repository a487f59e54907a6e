"""How do people call it, by a line or from a page?"""
