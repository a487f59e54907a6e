"""What would we hold?"""
