-- Outpatient body measurements in SI-near units, each marked plausible or not.
--
-- Grain:  one row per omr row of a kind we know; a blood pressure holds two numbers
-- Key:    omr_row
-- Inputs: measurement_kinds, raw.omr
-- Known:  on chartdate
-- Source: MIMIC-IV v3.1, hosp.omr
--
-- Values are text: "110/70" is a pressure, "63" a height in inches. A value that is no number or lies
-- outside its bounds stays here, marked, so that it can be counted; no measurement is made of it. A pressure
-- of which one number is implausible is implausible as a whole: half a reading is no reading.

SELECT
    omr.rowid AS omr_row,
    omr.subject_id,
    omr.chartdate,
    omr.seq_num,
    kinds.quantity,
    TRY_CAST(
        CASE WHEN kinds.parts = 1 THEN omr.result_value ELSE split_part(omr.result_value, '/', 1) END AS DOUBLE
    ) * kinds.factor AS reading,
    CASE WHEN kinds.parts = 2
        THEN TRY_CAST(split_part(omr.result_value, '/', 2) AS DOUBLE) * kinds.second_factor
    END AS second_reading,
    coalesce(reading BETWEEN kinds.low AND kinds.high, FALSE) AS first_plausible,
    kinds.parts = 1 OR coalesce(second_reading BETWEEN kinds.second_low AND kinds.second_high, FALSE)
        AS second_plausible
FROM raw.omr AS omr
INNER JOIN measurement_kinds AS kinds USING (result_name)
