"""What do we believe about the cross-section?"""
