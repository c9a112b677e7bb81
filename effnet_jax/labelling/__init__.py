"""A teacher's answers on unlabelled images, for a student to train on."""
