"""What are a panel, a date, a setting, an error, a recorded trial?"""
