"""How do beliefs become one score with its uncertainty?"""
