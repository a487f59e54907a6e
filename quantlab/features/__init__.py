"""What can be said from past bars alone?"""
