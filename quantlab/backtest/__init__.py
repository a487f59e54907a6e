"""What would have happened, after costs?"""
