"""What was knowable about markets, and when?"""
