"""How does a target become orders and fills, on paper and live?"""
