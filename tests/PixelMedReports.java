import com.pixelmed.validate.DicomSRValidator;

/** Judges many structured reports in one process: making the validator takes longer than asking it. */
class PixelMedReports {
    public static void main(String[] paths) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String path : paths) {
            System.out.println("== " + path);
            System.out.println(validator.validate(path, false, true, false, false, false));
        }
    }
}
