"""What do options and credit imply?"""
