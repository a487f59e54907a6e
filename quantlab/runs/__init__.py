"""What was run, does it still hold, and when does it run again?"""
