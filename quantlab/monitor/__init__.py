"""Is it still as it was learnt, and is it worth learning again?"""
