"""What is the evidence?"""
