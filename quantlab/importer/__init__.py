"""How does somebody's file become our bars?"""
