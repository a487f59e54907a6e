"""How do we judge without cheating?"""
