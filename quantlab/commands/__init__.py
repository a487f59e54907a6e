"""How is all of it called by one line?"""
