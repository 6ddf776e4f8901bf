-- The diagnoses of each stay as one list, in the order the coders ranked them.
--
-- Grain:  one row per stay with a diagnosis
-- Key:    hadm_id
-- Inputs: diagnoses, icd_codes
-- Known:  after discharge, when the stay is coded for billing
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd
--
-- A code without a rank stands last; of equal ranks the code decides. A code without a title keeps its place.

SELECT
    diagnoses.hadm_id,
    list_transform(
        list_sort(
            list({
                'rank': diagnoses.seq_num,
                'icd_code': icd_codes.code,
                'icd_version': icd_codes.icd_version,
                'title': icd_codes.title
            }),
            'ASC', 'NULLS LAST'
        ),
        lambda d: {'icd_code': d.icd_code, 'icd_version': d.icd_version, 'title': d.title}
    ) AS diagnoses
FROM diagnoses
INNER JOIN icd_codes USING (code_number)
GROUP BY diagnoses.hadm_id
