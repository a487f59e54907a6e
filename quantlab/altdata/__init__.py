"""What was knowable from filings, text and images, and when?"""
