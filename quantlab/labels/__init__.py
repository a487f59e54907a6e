"""What came next? The only room that may look forward"""
