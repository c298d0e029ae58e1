"""What tests of several rooms share that is neither a program they are run against nor a test."""
