"""Where does a factor's forecast come from, and what is left without it?"""
