"""What if it decides bar by bar?"""
